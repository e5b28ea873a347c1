"""Tests of export and of exported models."""
