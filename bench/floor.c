// SPDX-License-Identifier: Apache-2.0
// The floor of the benchmark: the least that a program must do to read or program VFs by rtnetlink.
//
// Commands on standard input, one a line; each is answered by one line: a number, then the nanoseconds of each sample.
//
//   read IFINDEX COUNT [FILE]      RTM_GETLINK with mask 9, walk every attribute of every VF into a struct.
//                                  Number: the VFs found. With FILE the reply is replaced by that file's octets.
//   program IFINDEX VFS COUNT ALL  one RTM_SETLINK per VF from 0 on, encoded before the clock starts, all in one
//                                  send; then one acknowledgement per VF. ALL 0: what igb's driver can.
//                                  Number: the acknowledgements that were refusals.
//
// Values alternate from sample to sample, as in bench/guest/values.py.
#define _GNU_SOURCE
#include <arpa/inet.h>
#include <errno.h>
#include <linux/if_link.h>
#include <linux/netlink.h>
#include <linux/rtnetlink.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <time.h>
#include <unistd.h>

#ifndef RTEXT_FILTER_SKIP_STATS
#define RTEXT_FILTER_SKIP_STATS (1 << 3)
#endif
#define RECEIVE (1 << 20)
#define MOST_VFS 4096

struct vf {
	uint8_t mac[6];
	uint32_t vlan, qos, min_rate, max_rate, spoofchk, link_state, rss_query, trust;
	uint16_t proto;
};

static struct vf vfs[MOST_VFS];
static uint8_t reply[RECEIVE], captured[RECEIVE], requests[2][RECEIVE];
static int handle;

static void fail(const char *what)
{
	perror(what);
	exit(1);
}

static uint64_t now(void)
{
	struct timespec time;
	clock_gettime(CLOCK_MONOTONIC, &time);
	return time.tv_sec * 1000000000ull + time.tv_nsec;
}

static void open_socket(void)
{
	struct sockaddr_nl kernel = {.nl_family = AF_NETLINK};
	int size = RECEIVE, on = 1;
	handle = socket(AF_NETLINK, SOCK_RAW | SOCK_CLOEXEC, NETLINK_ROUTE);
	if (handle < 0 || bind(handle, (void *)&kernel, sizeof kernel) || connect(handle, (void *)&kernel, sizeof kernel))
		fail("netlink socket");
	setsockopt(handle, SOL_SOCKET, SO_RCVBUF, &size, sizeof size);
	setsockopt(handle, SOL_SOCKET, SO_RCVBUFFORCE, &size, sizeof size);
	setsockopt(handle, SOL_NETLINK, NETLINK_CAP_ACK, &on, sizeof on);
}

static ssize_t receive(void)
{
	ssize_t size = recv(handle, reply, sizeof reply, 0);
	if (size < (ssize_t)sizeof(struct nlmsghdr))
		fail("receive");
	return size;
}

// Section: read

static void take_vlan(struct vf *vf, struct rtattr *list)
{
	int left = RTA_PAYLOAD(list);
	for (struct rtattr *at = RTA_DATA(list); RTA_OK(at, left); at = RTA_NEXT(at, left)) {
		struct ifla_vf_vlan_info *info = RTA_DATA(at);
		vf->vlan = info->vlan;
		vf->qos = info->qos;
		vf->proto = ntohs(info->vlan_proto);
	}
}

static void take_vf(struct vf *vf, struct rtattr *block)
{
	int left = RTA_PAYLOAD(block);
	for (struct rtattr *at = RTA_DATA(block); RTA_OK(at, left); at = RTA_NEXT(at, left)) {
		uint32_t *words = RTA_DATA(at);
		switch (at->rta_type & NLA_TYPE_MASK) {
		case IFLA_VF_MAC: memcpy(vf->mac, words + 1, 6); break;
		case IFLA_VF_VLAN_LIST: take_vlan(vf, at); break;
		case IFLA_VF_RATE: vf->min_rate = words[1]; vf->max_rate = words[2]; break;
		case IFLA_VF_SPOOFCHK: vf->spoofchk = words[1]; break;
		case IFLA_VF_LINK_STATE: vf->link_state = words[1]; break;
		case IFLA_VF_RSS_QUERY_EN: vf->rss_query = words[1]; break;
		case IFLA_VF_TRUST: vf->trust = words[1]; break;
		}
	}
}

static int walk(uint8_t *data, ssize_t size)
{
	struct nlmsghdr *header = (void *)data;
	int found = 0, announced = 0, left = header->nlmsg_len - NLMSG_LENGTH(sizeof(struct ifinfomsg));
	if (header->nlmsg_type != RTM_NEWLINK || header->nlmsg_len > size)
		return -1;
	for (struct rtattr *at = IFLA_RTA(NLMSG_DATA(header)); RTA_OK(at, left); at = RTA_NEXT(at, left)) {
		if ((at->rta_type & NLA_TYPE_MASK) == IFLA_NUM_VF)
			announced = *(uint32_t *)RTA_DATA(at);
		if ((at->rta_type & NLA_TYPE_MASK) != IFLA_VFINFO_LIST)
			continue;
		int inside = RTA_PAYLOAD(at);
		for (struct rtattr *vf = RTA_DATA(at); RTA_OK(vf, inside) && found < MOST_VFS; vf = RTA_NEXT(vf, inside))
			take_vf(&vfs[found++], vf);
	}
	return found == announced ? found : -1;
}

static void read_vfs(int ifindex, int count, const char *file)
{
	struct {
		struct nlmsghdr header;
		struct ifinfomsg link;
		struct rtattr mask_header;
		uint32_t mask;
	} request = {
		{sizeof request, RTM_GETLINK, NLM_F_REQUEST, 1, 0},
		{.ifi_index = ifindex},
		{8, IFLA_EXT_MASK},
		RTEXT_FILTER_VF | RTEXT_FILTER_SKIP_STATS,
	};
	uint64_t *samples = calloc(count, sizeof *samples);
	ssize_t size = 0;
	int found = 0;
	if (file) {
		FILE *from = fopen(file, "rb");
		if (!from)
			fail(file);
		size = fread(captured, 1, sizeof captured, from);
		fclose(from);
	}
	for (int i = 0; i < count; i++) {
		uint64_t begin = now();
		if (send(handle, &request, sizeof request, 0) < 0)
			fail("send");
		ssize_t got = receive();
		if (file)
			memcpy(reply, captured, got = size);
		found = walk(reply, got);
		samples[i] = now() - begin;
	}
	printf("%d", found);
	for (int i = 0; i < count; i++)
		printf(" %llu", (unsigned long long)samples[i]);
	free(samples);
}

// Section: program

static uint8_t *put(uint8_t *at, int type, const void *payload, int length)
{
	struct rtattr *attribute = (void *)at;
	attribute->rta_type = type;
	attribute->rta_len = RTA_LENGTH(length);
	memcpy(RTA_DATA(attribute), payload, length);
	return at + RTA_ALIGN(attribute->rta_len);
}

static uint8_t *put_word(uint8_t *at, int type, uint32_t vf, uint32_t word)
{
	uint32_t words[2] = {vf, word};
	return put(at, type, words, sizeof words);
}

static uint8_t *put_settings(uint8_t *at, uint32_t vf, uint32_t variant, int all)
{
	struct ifla_vf_mac mac = {vf, {2, 0, 0, 0, variant, vf}};
	struct ifla_vf_vlan_info vlan = {vf, 100 + 2 * vf + variant, 1 + variant, htons(0x8100)};
	struct ifla_vf_rate rate = {vf, all ? 10 * (1 + variant) : 0, 100 * (1 + variant)};
	at = put(at, IFLA_VF_MAC, &mac, sizeof mac);
	struct rtattr *list = (void *)at;
	at = put(at + RTA_LENGTH(0), IFLA_VF_VLAN_INFO, &vlan, sizeof vlan);
	list->rta_type = IFLA_VF_VLAN_LIST;
	list->rta_len = at - (uint8_t *)list;
	at = put(at, IFLA_VF_RATE, &rate, sizeof rate);
	at = put_word(at, IFLA_VF_SPOOFCHK, vf, !variant);
	at = put_word(at, IFLA_VF_TRUST, vf, variant);
	if (all) {
		at = put_word(at, IFLA_VF_LINK_STATE, vf, 1 + variant);
		at = put_word(at, IFLA_VF_RSS_QUERY_EN, vf, variant);
	}
	return at;
}

static uint8_t *put_request(uint8_t *at, int ifindex, uint32_t vf, uint32_t variant, int all)
{
	struct nlmsghdr *header = (void *)at;
	struct ifinfomsg link = {.ifi_index = ifindex};
	memcpy(NLMSG_DATA(header), &link, sizeof link);
	struct rtattr *list = (void *)(at + NLMSG_SPACE(sizeof link)), *block = RTA_DATA(list);
	uint8_t *end = put_settings(RTA_DATA(block), vf, variant, all);
	*list = (struct rtattr){end - (uint8_t *)list, IFLA_VFINFO_LIST};
	*block = (struct rtattr){end - (uint8_t *)block, IFLA_VF_INFO};
	*header = (struct nlmsghdr){end - at, RTM_SETLINK, NLM_F_REQUEST | NLM_F_ACK, vf + 1, 0};
	return end;
}

static void program_vfs(int ifindex, int number, int count, int all)
{
	uint64_t *samples = calloc(count, sizeof *samples);
	size_t sizes[2];
	int refused = 0;
	for (int variant = 0; variant < 2; variant++) {
		uint8_t *at = requests[variant];
		for (int vf = 0; vf < number; vf++)
			at = put_request(at, ifindex, vf, variant, all);
		sizes[variant] = at - requests[variant];
	}
	for (int i = 0; i < count; i++) {
		int variant = i % 2;
		uint64_t begin = now();
		if (send(handle, requests[variant], sizes[variant], 0) < 0)
			fail("send");
		for (int vf = 0; vf < number; vf++) {
			receive();
			struct nlmsghdr *header = (void *)reply;
			refused += header->nlmsg_type != NLMSG_ERROR || ((struct nlmsgerr *)NLMSG_DATA(header))->error;
		}
		samples[i] = now() - begin;
	}
	printf("%d", refused);
	for (int i = 0; i < count; i++)
		printf(" %llu", (unsigned long long)samples[i]);
	free(samples);
}

int main(void)
{
	char line[4096], file[4000];
	int ifindex, number, count, all;
	open_socket();
	while (fgets(line, sizeof line, stdin)) {
		int words = sscanf(line, "read %d %d %3999s", &ifindex, &count, file);
		if (words >= 2)
			read_vfs(ifindex, count, words == 3 ? file : NULL);
		else if (sscanf(line, "program %d %d %d %d", &ifindex, &number, &count, &all) == 4)
			program_vfs(ifindex, number, count, all);
		else
			return 2;
		printf("\n");
		fflush(stdout);
	}
	return 0;
}
