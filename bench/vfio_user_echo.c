// SPDX-License-Identifier: Apache-2.0
// The floor of bench/vfio_user.py: the least that a vfio-user server can do for a register read.
//
// usage: vfio_user_echo SOCKET     accepts one client; answers VERSION, then every 32-octet REGION_READ of 4 octets
//                                  with the 4 octets of a counter; one send for all answers of a chunk.
#include <stdint.h>
#include <stdio.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <unistd.h>

struct message {
	uint16_t msg_id, cmd;
	uint32_t msg_size, flags, error_no;
	uint64_t offset;
	uint32_t region, count;
} __attribute__((packed));

struct answer {
	struct message message;
	uint32_t data;
} __attribute__((packed));

static uint8_t in[1 << 16];
static struct answer out[sizeof in / sizeof(struct message)];

int main(int argc, char **argv)
{
	struct sockaddr_un address = {.sun_family = AF_UNIX};
	struct answer version = {.message = {.msg_id = 0, .cmd = 1, .msg_size = 20, .flags = 1}};
	size_t held = 0;
	uint32_t counter = 0;
	int listener = socket(AF_UNIX, SOCK_STREAM, 0), client;
	if (argc != 2)
		return 2;
	strncpy(address.sun_path, argv[1], sizeof address.sun_path - 1);
	if (bind(listener, (struct sockaddr *)&address, sizeof address) || listen(listener, 1))
		return 1;
	client = accept(listener, NULL, NULL);
	if (recv(client, in, sizeof in, 0) < 16)
		return 1;
	version.message.msg_id = ((struct message *)in)->msg_id;
	if (send(client, &version, 20, 0) != 20)
		return 1;
	for (;;) {
		ssize_t count = recv(client, in + held, sizeof in - held, 0);
		size_t number, octets;
		if (count <= 0)
			return 0;
		held += count;
		number = held / sizeof(struct message);
		for (size_t i = 0; i < number; i++) {
			memcpy(&out[i].message, in + i * sizeof(struct message), sizeof(struct message));
			out[i].message.msg_size = sizeof(struct answer);
			out[i].message.flags = 1;
			out[i].data = counter++;
		}
		octets = number * sizeof(struct message);
		memmove(in, in + octets, held - octets);
		held -= octets;
		for (size_t sent = 0, all = number * sizeof(struct answer); sent < all; sent += count)
			if ((count = send(client, (uint8_t *)out + sent, all - sent, 0)) <= 0)
				return 1;
	}
}
