"""The ordinary PyTorch training loop, on the device: python examples/train_loop.py [model|rtl]."""

import sys

import gradgate
import torch
import torch.nn.functional as F
from gradgate.data import digits
from gradgate.nets import digits_cnn

torch.manual_seed(0)
(images, labels), (test_images, test_labels) = digits()
device = gradgate.device(sys.argv[1] if len(sys.argv) > 1 else "model", board="ulx3s-85f")
model = gradgate.compile(digits_cnn(), example_inputs=(images[:32],), device=device)
optimizer = gradgate.optim.SGD(model.parameters(), lr=0.05, momentum=0.9)

for epoch in range(2):
    for batch in torch.randperm(len(images)).split(32):
        loss = F.cross_entropy(model(images[batch]), labels[batch])
        optimizer.zero_grad()
        loss.backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimizer.step()
    with torch.no_grad():
        accuracy = (model(test_images).argmax(1) == test_labels).float().mean()
    print(f"epoch {epoch + 1}: loss {loss:.3f}, held-out accuracy {accuracy:.1%}")

print(model.profile())
