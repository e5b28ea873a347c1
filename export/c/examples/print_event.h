/* A line for each event: time, keyword and score; or beginning, end and text. */
#include <stdio.h>

#include "../earshot.h"

static void print_event(const earshot_event *event, void *user) {
    (void)user;
    if (event->kind == EARSHOT_DETECTION)
        printf("%.3f\t%s\t%.5f\n", event->time, event->text, event->score);
    else
        printf("%.3f\t%.3f\t%s\n", event->start, event->end, event->text);
    fflush(stdout);
}
