"""The coders that encodings are built from: chunks on their own, and chunks against a prediction."""
