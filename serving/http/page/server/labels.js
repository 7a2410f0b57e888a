// What the page calls the fields of the server's messages.

export const LABELS = {
  prompt: "Text",
  text: "Text",
  max_new_symbols: "Length",
  "sampling.temperature": "Temperature",
  "sampling.top_p": "Top p",
  "sampling.top_k": "Top k",
  "sampling.min_p": "Min p",
  seed: "Seed",
  sample_count: "Seeds side by side",
  stop: "Stop before",
};
