"""Some steps of training with the digits, to compare devices."""

import gradgate
import torch
from gradgate.data import digits
from gradgate.nets import net


def trained(device, name, batch, steps):
    """(losses, state) of the network `name` after so many steps, in bytes."""
    torch.manual_seed(0)
    (images, labels), _ = digits()
    model = gradgate.compile(net(name)[0], example_inputs=(images[:batch],), device=device)
    optimizer = gradgate.optim.SGD(model.parameters(), lr=0.02, momentum=0.9)
    losses = [float(model.train_step(x, y, optimizer=optimizer))
              for x, y in zip(images.split(batch)[:steps], labels.split(batch), strict=False)]
    return losses, {name: value.numpy().tobytes() for name, value in model.state_dict().items()}
