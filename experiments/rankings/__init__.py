"""How much of every rule's ranking survives privacy, cell by cell of a grid, and by what law.

`python -m experiments.rankings FILE` plays the private cells of a grid file, each as `fnl plan`
plays its pilots, but on the cell's own clips: beside every candidate its shadow, its floor and a
twin that clips and adds no noise. One play scores all rules: scores are functions of its reports.
"""
