/* Recognises the sound of a microphone through ALSA, and prints a line for each event:
 *
 *     ./alsa commands.onnx            the device "default"
 *     ./alsa commands.onnx plughw:1   another one, of those that 'arecord -L' lists
 *     ./alsa english.onnx default "operator, wild fire=0.8"
 */
#include <alsa/asoundlib.h>
#include <signal.h>
#include <stdio.h>

#include "print_event.h"

enum { PERIOD = 320, LATENCY = 200000 }; /* samples that are read at once; microseconds of room */

static volatile sig_atomic_t ended;

static void end(int signal) {
    (void)signal;
    ended = 1;
}

/* Push what is recorded until a signal. Returns 0, or a negative number if that cannot go on. */
static int record(snd_pcm_t *device, earshot *recogniser) {
    int16_t samples[PERIOD];
    while (!ended) {
        snd_pcm_sframes_t got = snd_pcm_readi(device, samples, PERIOD);
        if (got < 0) {
            if (ended) break; /* the signal woke it up */
            fprintf(stderr, "warning: %s; sound was lost\n", snd_strerror((int)got));
            if (snd_pcm_recover(device, (int)got, 1) < 0) {
                fprintf(stderr, "error: %s\n", snd_strerror((int)got));
                return -1;
            }
        } else if (earshot_push_int16(recogniser, samples, (size_t)got)) {
            fprintf(stderr, "error: %s\n", earshot_error(recogniser));
            return -1;
        }
    }
    return earshot_finish(recogniser);
}

int main(int count, char **arguments) {
    char error[512];
    snd_pcm_t *device = NULL;
    if (count < 2 || count > 4) {
        fprintf(stderr, "usage: %s MODEL.onnx [DEVICE [KEYWORDS]]\n", arguments[0]);
        return 2;
    }
    const char *keywords = count == 4 ? arguments[3] : NULL;
    earshot *recogniser =
        earshot_open_keywords(arguments[1], keywords, print_event, NULL, error, sizeof error);
    if (!recogniser) {
        fprintf(stderr, "error: %s\n", error);
        return 2;
    }
    const char *name = count > 2 ? arguments[2] : "default";
    int problem = snd_pcm_open(&device, name, SND_PCM_STREAM_CAPTURE, 0);
    if (problem >= 0)
        problem = snd_pcm_set_params(device, SND_PCM_FORMAT_S16, SND_PCM_ACCESS_RW_INTERLEAVED, 1,
                                     (unsigned)earshot_sample_rate(recogniser), 1, LATENCY);
    if (problem < 0) {
        fprintf(stderr, "error: '%s' cannot be opened (%s); 'arecord -L' lists devices\n", name,
                snd_strerror(problem));
    } else {
        struct sigaction action = {.sa_handler = end}; /* without SA_RESTART: reading is broken off */
        sigaction(SIGINT, &action, NULL);
        sigaction(SIGTERM, &action, NULL);
        fprintf(stderr, "listening to '%s'; Ctrl-C stops\n", name);
        problem = record(device, recogniser);
    }
    if (device) snd_pcm_close(device);
    earshot_close(recogniser);
    return problem < 0 ? 2 : 0;
}
