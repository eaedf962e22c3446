"""BERT and its relatives, embedding models and rerankers."""
