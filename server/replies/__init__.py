"""A reply is parsed and vetted once; what is taken is an `Answer`."""
