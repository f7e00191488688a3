// A seccomp agent: gets the listener of a filter on a socket, prints what came with it, and answers each call that it is
// asked about with ENOMEDIUM.
#include <errno.h>
#include <linux/seccomp.h>
#include <stdio.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <unistd.h>

int main(int count, char **args) {
    struct sockaddr_un address = { .sun_family = AF_UNIX };
    int door = socket(AF_UNIX, SOCK_STREAM, 0);
    if (count != 2) return 2;
    strncpy(address.sun_path, args[1], sizeof address.sun_path - 1);
    if (bind(door, (struct sockaddr *)&address, sizeof address) || listen(door, 1)) return 3;
    int connection = accept(door, 0, 0);
    char text[8192] = { 0 }, control[CMSG_SPACE(sizeof(int))];
    struct iovec part = { text, sizeof text - 1 };
    struct msghdr message = { .msg_iov = &part, .msg_iovlen = 1, .msg_control = control,
                              .msg_controllen = sizeof control };
    if (recvmsg(connection, &message, 0) <= 0 || !CMSG_FIRSTHDR(&message)) return 4;
    int listener = *(int *)CMSG_DATA(CMSG_FIRSTHDR(&message));
    puts(text);
    fflush(stdout);
    for (;;) {
        struct seccomp_notif asked;
        memset(&asked, 0, sizeof asked);
        if (ioctl(listener, SECCOMP_IOCTL_NOTIF_RECV, &asked)) {
            if (errno == EINTR) continue;
            return 0;
        }
        struct seccomp_notif_resp answer = { .id = asked.id, .error = -ENOMEDIUM };
        if (ioctl(listener, SECCOMP_IOCTL_NOTIF_SEND, &answer) && errno != ENOENT) return 5;
    }
}
