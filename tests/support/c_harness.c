/* MODEL SOUND [KEYWORDS]: pushes a file in awkward pieces, twice with a reset between, and prints the
 * events. What earshot.c itself allocates after earshot_open is counted where the linker wraps its
 * calls (WRAPPED). */
#include <stdio.h>
#include <stdlib.h>
#include "earshot.h"

static int running, allocations;

#ifdef WRAPPED
void *__real_malloc(size_t size);
void *__real_calloc(size_t count, size_t size);

void *__wrap_malloc(size_t size) {
    allocations += running;
    return __real_malloc(size);
}

void *__wrap_calloc(size_t count, size_t size) {
    allocations += running;
    return __real_calloc(count, size);
}
#endif

static void print(const earshot_event *event, void *user) {
    (void)user;
    running = 0; /* printf takes its buffer */
    if (event->kind == EARSHOT_DETECTION)
        printf("%.6f\t%s\t%.6f\t%.6f\t%.6f\n", event->time, event->text, event->score, event->start,
               event->end);
    else
        printf("%.6f\t%.6f\t%s", event->start, event->end, event->text);
    for (size_t n = 0; n < event->word_count; n++) {
        const earshot_word *word = event->words + n;
        printf("\t%s %.6f %.6f %.6f", word->text, word->start, word->end, word->confidence);
    }
    if (event->kind == EARSHOT_UTTERANCE) printf("\n");
    running = 1;
}

int main(int count, char **arguments) {
    static int16_t samples[1 << 22];
    char error[256];
    FILE *file = fopen(arguments[2], "rb");
    size_t total = fread(samples, sizeof *samples, sizeof samples / sizeof *samples, file);
    fclose(file);
    const char *keywords = count > 3 ? arguments[3] : NULL;
    earshot *e = earshot_open_keywords(arguments[1], keywords, print, NULL, error, sizeof error);
    if (!e) return fprintf(stderr, "%s\n", error), 2;
    running = 1;
    for (int turn = 0; turn < 2; turn++) {
        for (size_t at = 0, step = 1; at < total; at += step, step = step * 7 % 4999 + 1) {
            size_t length = at + step < total ? step : total - at;
            if (earshot_push_int16(e, samples + at, length)) return 3;
        }
        if (earshot_finish(e)) return 3;
        earshot_reset(e);
        printf("reset\n");
    }
    running = 0;
    fprintf(stderr, "%d allocations\n", allocations);
    earshot_close(e);
    return 0;
}
