"""Tests of a grader before it trains anything: probes on real rows, findings in plain words, agreement with experts."""
