"""Other people's tools: what a run leaves in the store, passed on to TensorBoard, MLflow and W&B."""
