/* Whether an address can be reached from other machines: open access is the default on loopback only. Main thread. */
#include <netdb.h>
#include <netinet/in.h>
#include <string.h>
#include <sys/socket.h>

#include "app_private.h"

static bool is_loopback(const struct sockaddr *address)
{
	if (address->sa_family == AF_INET) {
		const struct sockaddr_in *v4 = (const struct sockaddr_in *)(const void *)address;
		return ntohl(v4->sin_addr.s_addr) >> 24 == IN_LOOPBACKNET;
	}
	if (address->sa_family == AF_INET6) {
		const struct in6_addr *v6 =
			&((const struct sockaddr_in6 *)(const void *)address)->sin6_addr;
		return IN6_IS_ADDR_LOOPBACK(v6) ||
		       (IN6_IS_ADDR_V4MAPPED(v6) && v6->s6_addr[12] == IN_LOOPBACKNET);
	}
	return false;
}

bool exposure_is_loopback(const char *address)
{
	char host[256];
	const char *colon = strrchr(address, ':');
	size_t n = colon == NULL ? strlen(address) : (size_t)(colon - address);
	if (n >= 2 && address[0] == '[' && address[n - 1] == ']') {
		address++;
		n -= 2;
	}
	if (n == 0 || n >= sizeof(host))
		return false;
	memcpy(host, address, n);
	host[n] = '\0';

	struct addrinfo hints = {.ai_flags = AI_PASSIVE, .ai_socktype = SOCK_STREAM};
	struct addrinfo *found = NULL;
	if (getaddrinfo(host, NULL, &hints, &found) != 0)
		return true;
	bool loopback = true;
	for (const struct addrinfo *a = found; a != NULL; a = a->ai_next)
		loopback = loopback && is_loopback(a->ai_addr);
	freeaddrinfo(found);
	return loopback;
}

bool exposure_socket_is_loopback(int fd)
{
	struct sockaddr_storage address = {0};
	socklen_t n = sizeof(address);
	if (getsockname(fd, (struct sockaddr *)&address, &n) != 0)
		return false;
	return is_loopback((const struct sockaddr *)&address);
}
