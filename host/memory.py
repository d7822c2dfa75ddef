"""Where everything lies in device memory."""

from .errors import OutOfMemoryError

__all__ = ["ALIGN", "Arena", "size_text"]

ALIGN = 64


def size_text(count):
    """`count` bytes, for people."""
    return f"{count / 2**20:.2f} MiB" if count >= 2**20 else f"{count / 2**10:.2f} KiB"


class Arena:
    """Addresses handed out upwards from `base`, never taken back.

    Parameters
    ----------
    base, limit : int
        First byte, first byte that is not ours.
    memory_size : int
        Bytes of the device, for the message.
    taken : list of (str, int), optional
        What already lies below `base`, as (name, bytes), for the message.
    remedy : str, optional
        What helps if there is too little, the end of the message.
    """

    def __init__(self, base, limit, memory_size, taken=(), remedy=""):
        self.end, self.limit = -(-base // ALIGN) * ALIGN, limit
        self._memory_size = memory_size
        self.taken, self._remedy = list(taken), remedy

    def place(self, name, size):
        """The address of `size` new bytes. Raises OutOfMemoryError, listing who has how much."""
        return self.place_all([(name, size)])[0]

    def place_all(self, wanted, align=ALIGN):
        """Addresses of all (name, bytes) of `wanted`, the first a multiple of `align`, itself one
        of ALIGN; the message of the exception lists all of them."""
        addresses, end = [], -(-self.end // align) * align
        for _, size in wanted:
            addresses.append(end)
            end = -(-(end + size) // ALIGN) * ALIGN
        if end > self.limit:
            entries = sorted(self.taken + list(wanted), key=lambda entry: -entry[1])
            lines = [f"  {size_text(size):>12}  {name}" for name, size in entries[:20]]
            if len(entries) > 20:
                lines.append(
                    f"  {size_text(sum(s for _, s in entries[20:])):>12}  "
                    f"{len(entries) - 20} smaller ones"
                )
            if self._remedy:
                lines.append(self._remedy)
            raise OutOfMemoryError(
                f"{size_text(end + self._memory_size - self.limit)} are needed, the device has "
                f"{size_text(self._memory_size)}:\n" + "\n".join(lines)
            )
        self.taken += wanted
        self.end = end
        return addresses
