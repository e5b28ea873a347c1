"""Tests of the whole way: train, export, recognise."""
