"""Trained models for servers."""
