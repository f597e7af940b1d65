"""Reading stretches of talk word by word: what answers a question, what is settled, promised or left open."""
