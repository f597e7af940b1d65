"""The chat model without weights: it plans by rule and composes answers of what the tools returned."""
