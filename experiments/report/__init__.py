"""`fnl report`: one HTML page about a run or a grid that needs nothing beside itself."""
