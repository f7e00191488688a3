/* From a network of one's own to the machine's, and to those of others. */

static int reach_at(uint32_t address, uint16_t port, int type, uint32_t from) {
  struct sockaddr_in to = {.sin_family = AF_INET, .sin_port = htons(port), .sin_addr.s_addr = address};
  struct sockaddr_in source = {.sin_family = AF_INET, .sin_addr.s_addr = from};
  struct timeval second = {.tv_sec = 1};
  int fd = socket(AF_INET, type, 0), on = 1, done = -1;
  if (fd < 0) die("socket");
  setsockopt(fd, SOL_SOCKET, SO_SNDTIMEO, &second, sizeof second);
  if (from) setsockopt(fd, IPPROTO_IP, IP_FREEBIND, &on, sizeof on);
  if (!from || bind(fd, (struct sockaddr *)&source, sizeof source) == 0)
    done = connect(fd, (struct sockaddr *)&to, sizeof to);
  if (done == 0 && type == SOCK_DGRAM) done = send(fd, "spoofed", 7, 0) == 7 ? 0 : -1;
  int error = errno;
  close(fd);
  errno = error;
  return done;
}

static uint32_t gateway(void) {
  FILE *routes = fopen("/proc/net/route", "r");
  char line[256];
  unsigned destination, via;
  while (routes && fgets(line, sizeof line, routes))
    if (sscanf(line, "%*s %x %x", &destination, &via) == 2 && destination == 0 && via) return via;
  return 0;
}

/* One message of netlink and its answer: 0, or an error. */
static int ask_netlink(int protocol, struct nlmsghdr *message) {
  struct { struct nlmsghdr header; struct nlmsgerr error; char rest[512]; } answer;
  int fd = socket(AF_NETLINK, SOCK_RAW, protocol);
  if (fd < 0) return -1;
  message->nlmsg_flags |= NLM_F_REQUEST | NLM_F_ACK;
  ssize_t length = send(fd, message, message->nlmsg_len, 0) < 0 ? -1 : recv(fd, &answer, sizeof answer, 0);
  close(fd);
  if (length < 0) return -1;
  errno = answer.header.nlmsg_type == NLMSG_ERROR ? -answer.error.error : 0;
  return errno ? -1 : 0;
}

/* A service of the machine's, by every address of it that is known inside. */
static int machine_service(uint16_t port) {
  struct { const char *name; uint32_t address; } places[] = {
      {"loopback", htonl(INADDR_LOOPBACK)}, {"another loopback", htonl(0x7f000053)}, {"0.0.0.0", 0}, {"the gateway", gateway()}};
  for (unsigned i = 0; i < sizeof places / sizeof *places; i++) {
    if (i == 3 && !places[i].address) continue;
    reach_at(places[i].address, port, SOCK_STREAM, 0) == 0 ? worked("reached the machine at %s", places[i].name) : refused("reach the machine at %s", places[i].name);
  }
  return 0;
}

static int other_network(const char *address, uint16_t port) {
  return reach_at(inet_addr(address), port, SOCK_STREAM, 0) == 0 ? worked("reached %s", address) : refused("reach %s", address);
}

static int spoof(const char *as, const char *to, uint16_t port) {
  return reach_at(inet_addr(to), port, SOCK_DGRAM, inet_addr(as)) == 0 ? worked("spoke as %s", as) : refused("speak as %s", as);
}

/* Links, addresses, neighbours and rules of one's own network, by which others could be taken in. */
static int rewire(void) {
  struct { struct nlmsghdr header; struct ifinfomsg body; } link = {
      .header = {.nlmsg_len = sizeof link, .nlmsg_type = RTM_NEWLINK},
      .body = {.ifi_index = (int)if_nametoindex("lo"), .ifi_change = IFF_NOARP, .ifi_flags = 0}};
  ask_netlink(NETLINK_ROUTE, &link.header) == 0 ? worked("changed a link") : refused("change a link");
  struct { struct nlmsghdr header; struct ifaddrmsg body; struct rtattr attribute; uint32_t address; } add = {
      .header = {.nlmsg_len = sizeof add, .nlmsg_type = RTM_NEWADDR, .nlmsg_flags = NLM_F_CREATE},
      .body = {.ifa_family = AF_INET, .ifa_prefixlen = 32, .ifa_index = if_nametoindex("lo")},
      .attribute = {.rta_len = 8, .rta_type = IFA_LOCAL},
      .address = htonl(0x7f000063)};
  ask_netlink(NETLINK_ROUTE, &add.header) == 0 ? worked("added an address") : refused("add an address");
  struct { struct nlmsghdr header; struct nfgenmsg body; } rules = {
      .header = {.nlmsg_len = sizeof rules, .nlmsg_type = (NFNL_SUBSYS_NFTABLES << 8) | NFT_MSG_GETGEN},
      .body = {.nfgen_family = AF_UNSPEC}};
  ask_netlink(NETLINK_NETFILTER, &rules.header) == 0 ? worked("read the rules") : refused("read the rules");
  int fd = open("/proc/sys/net/ipv4/ip_forward", O_WRONLY);
  fd >= 0 ? worked("opened ip_forward to write") : refused("open ip_forward to write");
  return 0;
}
