"""A source-filter synthesiser of spoken keywords by any number of speakers.

A word is a sequence of phonemes (`lexicon`), each a target for the formants and the noise sources
(`phonemes`). `articulation` turns the word into slowly varying control tracks, `prosody` into a
pitch contour; `source_filter` excites the vocal tract of one `voice` with them, and `channel` plays
the result in a room, through a microphone, into noise. `speaker` draws voices and channels.
"""
