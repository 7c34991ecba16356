/*
 * The whole content of the image "on an empty root": one static program that says what it was given.
 *
 * It prints its arguments, environment, directory, ids and capabilities, one "key value" line each
 * with every byte but letters, digits and a few signs as %XX, then waits and names each signal it
 * receives. First argument "exit:N" ends with N at once, "crash:N" after a short while.
 * "open:PATH" writes a line to PATH by its name, "listen:PORT" answers HTTP there.
 */
#define _GNU_SOURCE
#include <arpa/inet.h>
#include <errno.h>
#include <fcntl.h>
#include <grp.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

extern char **environ;

static void say(const char *key, const char *value)
{
    printf("%s ", key);
    for (const unsigned char *c = (const unsigned char *)value; *c; c++) {
        if (strchr("/=.:,_+@-", *c) || (*c >= '0' && *c <= '9') ||
            (*c >= 'A' && *c <= 'Z') || (*c >= 'a' && *c <= 'z'))
            putchar(*c);
        else
            printf("%%%02X", *c);
    }
    putchar('\n');
    fflush(stdout);
}

static void say_number(const char *key, long value)
{
    char text[32];
    snprintf(text, sizeof text, "%ld", value);
    say(key, text);
}

static void say_status(const char *field)
{
    char line[512];
    FILE *file = fopen("/proc/self/status", "r");
    while (file && fgets(line, sizeof line, file))
        if (strncmp(line, field, strlen(field)) == 0 && line[strlen(field)] == ':') {
            line[strcspn(line, "\n")] = 0;
            say(field, line + strlen(field) + 2);
        }
    if (file)
        fclose(file);
}

static void write_by_name(const char *path)
{
    int file = open(path, O_WRONLY | O_APPEND);
    if (file < 0) {
        say("open-failed", strerror(errno));
        return;
    }
    dprintf(file, "opened %s\n", path);
    close(file);
}

static int listen_on(int port)
{
    int socket_ = socket(AF_INET, SOCK_STREAM, 0), yes = 1;
    struct sockaddr_in address = {.sin_family = AF_INET, .sin_port = htons(port)};
    setsockopt(socket_, SOL_SOCKET, SO_REUSEADDR, &yes, sizeof yes);
    if (bind(socket_, (struct sockaddr *)&address, sizeof address) || listen(socket_, 8)) {
        say("listen-failed", strerror(errno));
        exit(1);
    }
    say_number("listening", port);
    return socket_;
}

static void answer(int socket_)
{
    char request[2048];
    int client = accept(socket_, NULL, NULL);
    if (client < 0)
        return;
    if (read(client, request, sizeof request) > 0)
        dprintf(client, "HTTP/1.0 200 OK\r\nContent-Length: 6\r\n\r\nprobe\n");
    close(client);
}

static volatile sig_atomic_t received;
static void on_signal(int number) { received = number; }

int main(int count, char **words)
{
    char directory[4096];
    gid_t groups[64];
    int server = -1;
    struct sigaction action = {.sa_handler = on_signal};

    for (int number = 1; number < 65; number++)
        if (number != SIGKILL && number != SIGSTOP && number != SIGCHLD && number != SIGSEGV)
            sigaction(number, &action, NULL);
    for (int i = 0; i < count; i++)
        say("arg", words[i]);
    for (char **entry = environ; *entry; entry++)
        say("env", *entry);
    say("cwd", getcwd(directory, sizeof directory) ? directory : "?");
    say_number("pid", getpid());
    say_number("uid", getuid());
    say_number("gid", getgid());
    int size = getgroups(64, groups);
    for (int i = 0; i < size; i++)
        say_number("group", groups[i]);
    say_status("CapEff");
    for (int i = 1; i < count; i++) {
        if (strncmp(words[i], "open:", 5) == 0)
            write_by_name(words[i] + 5);
        else if (strncmp(words[i], "listen:", 7) == 0)
            server = listen_on(atoi(words[i] + 7));
        else if (strncmp(words[i], "exit:", 5) == 0)
            return atoi(words[i] + 5);
        else if (strncmp(words[i], "crash:", 6) == 0) {
            usleep(100000);
            return atoi(words[i] + 6);
        }
    }
    say("ready", "yes");
    for (;;) {
        if (server >= 0)
            answer(server);
        else
            pause();
        if (received) {
            say_number("signal", received);
            if (received != SIGHUP && received != SIGUSR1 && received != SIGWINCH)
                return 0;
            received = 0;
        }
    }
}
