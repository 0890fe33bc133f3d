"""From a trained model to an answer: export, verify, predict."""
