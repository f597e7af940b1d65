"""Evaluation: error rates, timestamp errors and accuracy over a file of cases.

``python -m moss_audio.evaluate CASES.jsonl --model NAME`` runs a model and scores it;
``--predictions FILE`` alone scores what any program answered. See docs/evaluation.md.
"""
