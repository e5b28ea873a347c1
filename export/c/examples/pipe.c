/* Recognises raw 16-bit mono sound from standard input, and prints a line for each event:
 *
 *     arecord -q -f S16_LE -r 16000 | ./pipe commands.onnx
 *     arecord -q -f S16_LE -r 16000 | ./pipe english.onnx "operator, wild fire=0.8"
 */
#include <stdio.h>

#include "print_event.h"

int main(int count, char **arguments) {
    char error[512];
    if (count < 2 || count > 3) {
        fprintf(stderr, "usage: %s MODEL.onnx [KEYWORDS] < sound.raw\n", arguments[0]);
        return 2;
    }
    const char *keywords = count == 3 ? arguments[2] : NULL;
    earshot *recogniser =
        earshot_open_keywords(arguments[1], keywords, print_event, NULL, error, sizeof error);
    if (!recogniser) {
        fprintf(stderr, "error: %s\n", error);
        return 2;
    }
    int16_t samples[320];
    size_t got;
    int failed = 0;
    while (!failed && (got = fread(samples, sizeof *samples, 320, stdin)))
        failed = earshot_push_int16(recogniser, samples, got);
    failed = failed || earshot_finish(recogniser);
    if (failed) fprintf(stderr, "error: %s\n", earshot_error(recogniser));
    earshot_close(recogniser);
    return failed ? 2 : 0;
}
