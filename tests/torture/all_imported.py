"""What takes long to import, and what commands import when they run, for `tests.torture.forked`."""

# ruff: noqa: F401
import alembic.command
import chromadb.api.rust
import polars
import scipy.stats
import sentence_transformers
import sklearn.linear_model
import torch

import agent.api.serving
import agent.bulk.runner
import agent.bulk.watch
import agent.cli.app
import agent.cli.judge_bulk
import agent.cli.monitoring_view
import agent.cli.render
import agent.pipeline.pipeline
import agent.pipeline.restore
import agent.training.challenge
import agent.training.feedback
import agent.training.forget
import agent.training.learn
import agent.training.tune_classifier
import retrieval.encoding.text_embedder
