"""Corpora, features and how clips are spread over clients."""
