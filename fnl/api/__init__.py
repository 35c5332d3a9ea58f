"""The Python front door: what `import fnl` offers. Like the command line, it drives experiments."""
