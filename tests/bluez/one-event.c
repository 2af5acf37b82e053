/* Loaded into btvirt before its own libraries. Its main loop takes several events at once and, handling one, may free what the next
 * one points to: a timer of an advertisement that was switched off just when it was due. It dies of that about once in a hundred
 * connections. With one event at a time there is no next one. */
#include <sys/epoll.h>
#include <sys/syscall.h>
#include <unistd.h>

int epoll_wait(int epoll, struct epoll_event *events, int events_max, int timeout_ms)
{
	(void)events_max;
	return (int)syscall(SYS_epoll_wait, epoll, events, 1, timeout_ms);
}
