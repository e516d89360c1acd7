"""Bring files, jobs and evals over from any OpenAI-compatible endpoint, and carry a finished job out as a bundle.

bring.bring_over(endpoint, store, ...) -> Tally      endpoint -> store; stopped anywhere, it goes on where it was
bundle.write_bundle(sources.from_store(...), out)    store or run folder -> a folder or a .zip with weights and evidence
"""
