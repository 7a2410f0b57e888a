"""A student's notebook as a script: the course's vanilla RNN. It imports nothing of unroll.

python student.py TEXT SECONDS HIDDEN LAYERS WEIGHTS
"""

# ruff: noqa
# mypy: ignore-errors

import sys
import time

import torch
import torch.nn as nn
from torch.distributions import Categorical


class RNN(nn.Module):
    def __init__(self, input_size, output_size, embedding_size=100, hidden_size=512, num_layers=3):
        super().__init__()
        self.input_size = input_size
        self.hidden_size = hidden_size
        self.num_layers = num_layers
        self.embedding = nn.Embedding(input_size, embedding_size)
        self.rnn = nn.RNN(embedding_size, hidden_size, num_layers, nonlinearity="relu")
        self.decoder = nn.Linear(hidden_size, output_size)

    def forward(self, input_seq, hidden_state):
        embedding = self.embedding(input_seq)
        output, hidden_state = self.rnn(embedding, hidden_state)
        output = self.decoder(output)
        return output, hidden_state.detach()


def main(path, seconds, hidden_size, num_layers, weights):
    data = open(path).read()
    chars = sorted(set(data))
    vocab_size = len(chars)
    char_to_ix = {ch: i for i, ch in enumerate(chars)}
    ix_to_char = {i: ch for i, ch in enumerate(chars)}
    data = torch.tensor([char_to_ix[ch] for ch in data]).unsqueeze(dim=1)

    torch.manual_seed(25)
    model = RNN(vocab_size, vocab_size, hidden_size=hidden_size, num_layers=num_layers)
    loss_fn = nn.CrossEntropyLoss()
    optimizer = torch.optim.Adam(model.parameters(), lr=0.001)

    seq_len, began, updates, running = 50, time.time(), 0, 0.0
    data_ptr, hidden_state = 0, None
    while time.time() - began < seconds:
        if data_ptr + seq_len + 1 > len(data):
            data_ptr, hidden_state = 0, None
        input_seq = data[data_ptr : data_ptr + seq_len]
        target_seq = data[data_ptr + 1 : data_ptr + seq_len + 1]
        output, hidden_state = model(input_seq, hidden_state)
        loss = loss_fn(torch.squeeze(output), torch.squeeze(target_seq))
        optimizer.zero_grad()
        loss.backward()
        nn.utils.clip_grad_norm_(model.parameters(), 5.0)
        optimizer.step()
        updates += 1
        running = 0.99 * running + 0.01 * loss.item() if updates > 1 else loss.item()
        data_ptr += seq_len
    print(f"{updates} updates, loss {running:.3f}")

    model.eval()
    hidden_state = None
    input_seq = data[0:1]
    text, likeliest = "", ""
    with torch.no_grad():
        for _ in range(200):
            output, hidden_state = model(input_seq, hidden_state)
            index = Categorical(logits=torch.squeeze(output)).sample()
            text += ix_to_char[index.item()]
            input_seq = index.view(1, 1)
        hidden_state, input_seq = None, torch.tensor([[char_to_ix["\n"]]])
        for _ in range(60):
            output, hidden_state = model(input_seq, hidden_state)
            input_seq = output[0].argmax(-1, keepdim=True)
            likeliest += ix_to_char[input_seq.item()]
    print(text)
    print("greedy:", repr(likeliest))
    torch.save(model.state_dict(), weights)


if __name__ == "__main__":
    main(sys.argv[1], float(sys.argv[2]), int(sys.argv[3]), int(sys.argv[4]), sys.argv[5])
