"""Figures of a study: each a function of a table that returns a matplotlib figure.

`of_run` and `of_grid` say which figures a run and a grid have and read their tables. A figure that
its table cannot fill raises `LeftOut` with the reason. Each is there in one and in two columns.
"""
