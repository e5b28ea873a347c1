"""Tests of training, evaluation and studies."""
