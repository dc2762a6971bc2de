/* Try to reach addresses from inside a step, in the ways that a program has. Each argument is WAY,ADDRESS,PORT:
 *
 * connect   connect(2)
 * device    the same with SO_BINDTODEVICE, for which IPv4 does without a route
 * frame     an Ethernet frame with a TCP SYN to eth0, which no route and no rule of this network sees
 * direct    the same past the queues of the kernel (PACKET_QDISC_BYPASS)
 * bind      bind(2) and listen(2)
 * raw       a raw socket
 * abstract  connect to an abstract unix socket of that name
 * own       the same, to a socket that a child of this program has made
 *
 * One line for each: the argument, and "reached" or the error. Frames are "sent".
 */
#define _GNU_SOURCE
#include <arpa/inet.h>
#include <errno.h>
#include <fcntl.h>
#include <linux/if_packet.h>
#include <net/ethernet.h>
#include <net/if.h>
#include <netinet/ip.h>
#include <netinet/ip6.h>
#include <netinet/tcp.h>
#include <poll.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <unistd.h>

static struct sockaddr_storage where;
static socklen_t size;

static int parse(const char *address, int port)
{
	struct sockaddr_in *four = (struct sockaddr_in *)&where;
	struct sockaddr_in6 *six = (struct sockaddr_in6 *)&where;

	memset(&where, 0, sizeof(where));
	if (inet_pton(AF_INET, address, &four->sin_addr) == 1) {
		four->sin_family = AF_INET;
		four->sin_port = htons(port);
		size = sizeof(*four);
		return AF_INET;
	}
	if (inet_pton(AF_INET6, address, &six->sin6_addr) != 1)
		exit(2);
	six->sin6_family = AF_INET6;
	six->sin6_port = htons(port);
	if (IN6_IS_ADDR_LINKLOCAL(&six->sin6_addr))
		six->sin6_scope_id = if_nametoindex("eth0");
	size = sizeof(*six);
	return AF_INET6;
}

static int finish(int fd, int milliseconds)
{
	struct pollfd wait = { .fd = fd, .events = POLLOUT };
	int error = 0;
	socklen_t length = sizeof(error);

	if (errno != EINPROGRESS)
		return -1;
	if (poll(&wait, 1, milliseconds) == 0) {
		errno = ETIMEDOUT;
		return -1;
	}
	getsockopt(fd, SOL_SOCKET, SO_ERROR, &error, &length);
	errno = error;
	return error ? -1 : 0;
}

static int try_connect(int family, int device)
{
	int fd = socket(family, SOCK_STREAM | SOCK_NONBLOCK, 0);

	if (device && setsockopt(fd, SOL_SOCKET, SO_BINDTODEVICE, "eth0", 4))
		return -1;
	return connect(fd, (struct sockaddr *)&where, size) ? finish(fd, device ? 100 : 5000) : 0;
}

static unsigned long add(unsigned long sum, const void *data, size_t length)
{
	const unsigned char *byte = data;

	for (size_t i = 0; i < length; i++)
		sum += i % 2 ? byte[i] : byte[i] << 8;
	return sum;
}

static unsigned short fold(unsigned long sum)
{
	while (sum >> 16)
		sum = (sum & 0xffff) + (sum >> 16);
	return htons(~sum & 0xffff);
}

static int try_frame(int family, int port, int direct, const char *gate)
{
	unsigned char frame[128] = { 0 };
	struct ether_header *ether = (struct ether_header *)frame;
	struct tcphdr *tcp;
	size_t length;
	unsigned long sum;
	int one = 1;
	struct sockaddr_ll to = { .sll_family = AF_PACKET, .sll_ifindex = if_nametoindex("eth0"), .sll_halen = 6 };
	int fd = socket(AF_PACKET, SOCK_RAW, htons(ETH_P_ALL));

	if (fd < 0 || (direct && setsockopt(fd, SOL_PACKET, PACKET_QDISC_BYPASS, &one, sizeof(one))))
		return -1;
	sscanf(gate, "%hhx:%hhx:%hhx:%hhx:%hhx:%hhx", &frame[0], &frame[1], &frame[2], &frame[3], &frame[4], &frame[5]);
	frame[6] = 2;
	if (family == AF_INET) {
		struct iphdr *ip = (struct iphdr *)(ether + 1);

		ether->ether_type = htons(ETHERTYPE_IP);
		tcp = (struct tcphdr *)(ip + 1);
		ip->version = 4;
		ip->ihl = 5;
		ip->ttl = 64;
		ip->protocol = IPPROTO_TCP;
		ip->tot_len = htons(sizeof(*ip) + sizeof(*tcp));
		ip->saddr = inet_addr("192.0.0.2");
		ip->daddr = ((struct sockaddr_in *)&where)->sin_addr.s_addr;
		ip->check = fold(add(0, ip, sizeof(*ip)));
		sum = add(0, &ip->saddr, 8);
	} else {
		struct ip6_hdr *ip = (struct ip6_hdr *)(ether + 1);

		ether->ether_type = htons(ETHERTYPE_IPV6);
		tcp = (struct tcphdr *)(ip + 1);
		ip->ip6_vfc = 0x60;
		ip->ip6_plen = htons(sizeof(*tcp));
		ip->ip6_nxt = IPPROTO_TCP;
		ip->ip6_hlim = 64;
		inet_pton(AF_INET6, "fd70:7962:7569:6c64::2", &ip->ip6_src);
		ip->ip6_dst = ((struct sockaddr_in6 *)&where)->sin6_addr;
		sum = add(0, &ip->ip6_src, 32);
	}
	tcp->source = htons(20000 + rand() % 20000);
	tcp->dest = htons(port);
	tcp->seq = htonl(1);
	tcp->doff = 5;
	tcp->syn = 1;
	tcp->window = htons(1024);
	tcp->check = fold(add(sum + IPPROTO_TCP + sizeof(*tcp), tcp, sizeof(*tcp)));
	length = (unsigned char *)(tcp + 1) - frame;
	memcpy(to.sll_addr, frame, 6);
	return sendto(fd, frame, length, 0, (struct sockaddr *)&to, sizeof(to)) == (ssize_t)length ? 0 : -1;
}

static int try_abstract(const char *name, int own)
{
	struct sockaddr_un to = { .sun_family = AF_UNIX };
	socklen_t length = offsetof(struct sockaddr_un, sun_path) + 1 + strlen(name);
	int fd = socket(AF_UNIX, SOCK_STREAM, 0), ready[2];
	char byte;

	strncpy(to.sun_path + 1, name, sizeof(to.sun_path) - 2);
	if (own && !pipe(ready) && !fork()) {
		fd = socket(AF_UNIX, SOCK_STREAM, 0);
		if (!bind(fd, (struct sockaddr *)&to, length) && !listen(fd, 1) && write(ready[1], "", 1) == 1)
			pause();
		_exit(1);
	}
	if (own && read(ready[0], &byte, 1) != 1)
		return -1;
	return connect(fd, (struct sockaddr *)&to, length);
}

/* The link address of the other end: the neighbour that the first argument names was asked for it before. */
static const char *neighbour(void)
{
	static char hardware[32];
	char line[256], address[64];
	FILE *table = fopen("/proc/net/arp", "r");

	while (table && fgets(line, sizeof(line), table))
		if (sscanf(line, "%63s %*s %*s %31s", address, hardware) == 2 && !strcmp(address, "192.0.0.1"))
			return hardware;
	return "ff:ff:ff:ff:ff:ff";
}

int main(int count, char **words)
{
	srand(getpid());
	for (int i = 1; i < count; i++) {
		char way[16], address[64];
		int port, family, result, fd, one = 1;

		if (sscanf(words[i], "%15[^,],%63[^,],%d", way, address, &port) != 3)
			return 2;
		family = strcmp(way, "abstract") && strcmp(way, "own") ? parse(address, port) : 0;
		errno = 0;
		if (!strcmp(way, "connect") || !strcmp(way, "device")) {
			result = try_connect(family, *way == 'd');
		} else if (!strcmp(way, "frame") || !strcmp(way, "direct")) {
			result = try_frame(family, port, *way == 'd', neighbour());
		} else if (!strcmp(way, "bind")) {
			fd = socket(family, SOCK_STREAM, 0);
			setsockopt(fd, SOL_SOCKET, SO_REUSEADDR, &one, sizeof(one));
			result = bind(fd, (struct sockaddr *)&where, size) || listen(fd, 1);
		} else if (!strcmp(way, "raw")) {
			result = socket(family, SOCK_RAW, IPPROTO_ICMP) < 0;
		} else if (!strcmp(way, "abstract") || !strcmp(way, "own")) {
			result = try_abstract(address, *way == 'o');
		} else {
			return 2;
		}
		printf("%s %s\n", words[i], result ? strerror(errno) : "reached");
		fflush(stdout);
	}
	return 0;
}
