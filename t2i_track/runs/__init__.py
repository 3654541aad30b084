"""The one part that knows all the others: a run from start to finish, its scores, and the rows for comparing."""
