"""The life of one answer: sent, read, resumed, stopped, stored."""
