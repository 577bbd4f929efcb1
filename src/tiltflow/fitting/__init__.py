"""From a data set to a trusted model: settings, stages of learning, and what is told of them."""
