"""Rows + sampler + grader to groups; the one path that training and evaluation share."""
