// Times llama.cpp, and quantizes models with it.
//
//   bench run MODEL.gguf IDS DECODE THREADS SEQUENCES
//   bench quantize IN.gguf OUT.gguf TYPE      TYPE: Q4_0, Q8_0 or Q4_K_M
//   bench about                               what of the processor it uses
//
// IDS are the prompt's ids with commas between them, with which each sequence begins. `run` prints
// what scripts/peers/programs.py describes.
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "ggml-backend.h"
#include "llama.h"

static void die(const char *what) {
    fprintf(stderr, "llama.cpp: %s\n", what);
    exit(1);
}

static double now_ms(void) {
    struct timespec time;
    clock_gettime(CLOCK_MONOTONIC, &time);
    return time.tv_sec * 1e3 + time.tv_nsec / 1e6;
}

static void log_errors(enum ggml_log_level level, const char *text, void *data) {
    (void) data;
    if (level == GGML_LOG_LEVEL_ERROR) fputs(text, stderr);
}

// The ids of a text such as 1,2,3, of which there are *count.
static llama_token *parse_ids(const char *text, int *count) {
    llama_token *ids = malloc((strlen(text) / 2 + 1) * sizeof *ids);
    *count = 0;
    for (char *rest = (char *) text; *rest; rest += *rest == ',') {
        char *end;
        ids[(*count)++] = strtol(rest, &end, 10);
        if (end == rest) die("IDS are no numbers");
        rest = end;
    }
    return ids;
}

// The best token to follow a token of the last batch.
static llama_token best(struct llama_context *context, int index, int vocabulary) {
    const float *logits = llama_get_logits_ith(context, index);
    llama_token best = 0;
    for (llama_token id = 1; id < vocabulary; id++) {
        if (logits[id] > logits[best]) best = id;
    }
    return best;
}

static void add(struct llama_batch *batch, llama_token token, int position, int sequence, int logits) {
    const int at = batch->n_tokens++;
    batch->token[at] = token;
    batch->pos[at] = position;
    batch->n_seq_id[at] = 1;
    batch->seq_id[at][0] = sequence;
    batch->logits[at] = logits;
}

static void decode_batch(struct llama_context *context, struct llama_batch batch) {
    if (llama_decode(context, batch) != 0) die("llama_decode failed");
}

static void run(const char *path, const char *ids, int decode, int threads, int sequences) {
    struct llama_model *model = llama_model_load_from_file(path, llama_model_default_params());
    if (!model) die("the model cannot be loaded");
    const int vocabulary = llama_vocab_n_tokens(llama_model_get_vocab(model));
    int count;
    llama_token *prompt = parse_ids(ids, &count);

    struct llama_context_params params = llama_context_default_params();
    params.n_ctx = (count + decode) * sequences;
    params.n_seq_max = sequences;
    params.n_batch = count > sequences ? count : sequences;
    // As many as llama.cpp computes at once by default.
    params.n_ubatch = params.n_batch < 512 ? params.n_batch : 512;
    params.n_threads = params.n_threads_batch = threads;
    struct llama_context *context = llama_init_from_model(model, params);
    if (!context) die("no context");

    llama_token *made = malloc((decode + 1) * sizeof *made);
    llama_token *next = malloc(sequences * sizeof *next);
    struct llama_batch batch = llama_batch_init(params.n_batch, 0, 1);
    double start = now_ms();
    for (int sequence = 0; sequence < sequences; sequence++) {
        batch.n_tokens = 0;
        for (int i = 0; i < count; i++) add(&batch, prompt[i], i, sequence, i == count - 1);
        decode_batch(context, batch);
        next[sequence] = best(context, -1, vocabulary);
    }
    const double prompt_ms = (now_ms() - start) / sequences;
    made[0] = next[0];
    start = now_ms();
    for (int i = 0; i < decode; i++) {
        batch.n_tokens = 0;
        for (int sequence = 0; sequence < sequences; sequence++) {
            add(&batch, next[sequence], count + i, sequence, 1);
        }
        decode_batch(context, batch);
        for (int sequence = 0; sequence < sequences; sequence++) {
            next[sequence] = best(context, sequence, vocabulary);
        }
        made[i + 1] = next[0];
    }
    const double decode_ms = now_ms() - start;

    printf("{\"prompt_ms\": %f, \"decode_ms\": %f, \"ids\": [", prompt_ms, decode_ms);
    for (int i = 0; i <= decode; i++) printf("%s%d", i ? ", " : "", made[i]);
    puts("]}");
}

static void quantize(const char *from, const char *to, const char *type) {
    struct llama_model_quantize_params params = llama_model_quantize_default_params();
    // The source is quantized already: good for speed, not for quality.
    params.allow_requantize = true;
    if (strcmp(type, "Q4_0") == 0) params.ftype = LLAMA_FTYPE_MOSTLY_Q4_0;
    else if (strcmp(type, "Q8_0") == 0) params.ftype = LLAMA_FTYPE_MOSTLY_Q8_0;
    else if (strcmp(type, "Q4_K_M") == 0) params.ftype = LLAMA_FTYPE_MOSTLY_Q4_K_M;
    else die("this type is not known here");
    if (llama_model_quantize(from, to, &params) != 0) die("quantizing failed");
}

int main(int count, char **args) {
    llama_log_set(log_errors, NULL);
    // The kernels of this processor are in a library beside the others.
    ggml_backend_load_all_from_path(getenv("GGML_BACKENDS"));
    llama_backend_init();
    if (count == 7 && strcmp(args[1], "run") == 0) {
        run(args[2], args[3], atoi(args[4]), atoi(args[5]), atoi(args[6]));
    } else if (count == 5 && strcmp(args[1], "quantize") == 0) {
        quantize(args[2], args[3], args[4]);
    } else if (count == 2 && strcmp(args[1], "about") == 0) {
        puts(llama_print_system_info());
    } else {
        die("usage: see bench.c");
    }
    return 0;
}
