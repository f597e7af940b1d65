"""Citations: markers in an answer, checked against evidence; sentences without one, marked."""
