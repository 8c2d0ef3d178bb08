"""The relational store, by SQLAlchemy."""
