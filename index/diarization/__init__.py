"""Who speaks: voice embeddings, clustering, constraints from a model's labels, alignment with sentences."""
