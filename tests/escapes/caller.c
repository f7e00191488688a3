/* A client of a package's socket, as small as can be: connects to the socket that is named, sends each line of standard
 * input, and prints the line that answers it. Says "closed" when the other side closes, and why it cannot connect. */
#include <stdio.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <unistd.h>

int main(int argc, char **argv) {
    struct sockaddr_un name = { .sun_family = AF_UNIX };
    static char line[1 << 20];
    if (argc != 2 || strlen(argv[1]) >= sizeof name.sun_path) return 2;
    strcpy(name.sun_path, argv[1]);
    int peer = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);
    if (peer < 0 || connect(peer, (struct sockaddr *)&name, sizeof name) < 0) {
        perror("connect");
        return 1;
    }
    FILE *from = fdopen(peer, "r");
    while (fgets(line, sizeof line, stdin)) {
        if (send(peer, line, strlen(line), MSG_NOSIGNAL) < 0 || !fgets(line, sizeof line, from)) {
            puts("closed");
            return 0;
        }
        fputs(line, stdout);
        fflush(stdout);
    }
    return 0;
}
