"""Ready graders for known uses, each an ordinary OpenAI grader definition. One file a kind; `kinds.py` has the table.

A python kind's file is the grader itself: its first lines are the settings, and `inline.py` puts what it imports from
the snippets beside it (`reading`, `numbers`, `running`) into the one source that runs here and on the hosted product.
"""
