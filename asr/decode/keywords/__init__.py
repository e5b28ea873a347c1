"""Spotting keywords: trained ones in a classifier's posteriors, typed ones in CTC scores."""
