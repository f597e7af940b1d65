"""The model: configuration, features, encoder, decoder, processor, tokenizer."""
