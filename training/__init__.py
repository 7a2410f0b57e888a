"""Train recurrent language models in torch: corpus -> vocabulary -> model -> checkpoint."""
