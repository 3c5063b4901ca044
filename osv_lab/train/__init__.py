"""Recipes, training on Ultralytics, and the MLflow registry."""
