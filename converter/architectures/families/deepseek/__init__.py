"""DeepSeek and relatives."""
