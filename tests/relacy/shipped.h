/* Between shipped.c and the scenarios. */
#ifndef MODEL_SHIPPED_H
#define MODEL_SHIPPED_H

#include <stddef.h>

#ifdef __cplusplus
extern "C" {
#endif

enum { BLOCKS = 3, OWNERS = 4, HOLDS = 2 };

enum Drop { DROP_LINKS, DROP_PUSHES, DROP_ANYWHERE }; /* what the last drop of a block does */

/* --- shipped.c, for the scenarios: each calls what is shipped --- */

/* Once: tells model_see() of every field that threads share. */
void shipped_start(void);
/* At the begin of each iteration: as after import, and BLOCKS blocks with so many owners each. */
void shipped_reset(enum Drop drop, int owners);
int shipped_has_gil(void);
void *shipped_block(int i);

void shipped_clone(void *raw);
void shipped_use(void *raw, int owner); /* writes to the payload, as owner number so-and-so */
void shipped_drop(void *raw);
void shipped_let_go(int hold, int block, int pushes); /* of a hold's record, with the count that it has */

void *shipped_pop(void); /* GIL; the block */
int shipped_pop_hold(void); /* GIL; whether there was one; ends it */
void shipped_free(void *raw); /* GIL */
void shipped_revive(void *raw); /* GIL; of one that was popped: it has one owner again */
int shipped_any(void);
size_t shipped_count(void); /* GIL */
void shipped_drain(int is_helper); /* GIL; as run_drain() in drain.pxi */

enum Mode { MODE_AUTO, MODE_MAIN, MODE_SCHEDULED };
void shipped_set_mode(enum Mode mode);
void shipped_before_fork(void);
void shipped_after_fork(int is_child);
void shipped_prepare_fork(void); /* no GIL: of fork() itself */
void shipped_in_parent(void);
void shipped_in_child(void);
void shipped_close(void);

/* --- the model, for shipped.c --- */

/* A field that threads share; of which memory that is freed at once, or NULL. */
void model_see(void *field, size_t size, const void *memory, const char *name);
void model_freed(const void *memory);
void model_dropped(void); /* a payload, whose memory goes next */
void model_assert(int condition, const char *what);
void model_finalize(int block, int is_helper); /* GIL: the scenario's, after the block is gone */
int model_schedule(void);

#ifdef __cplusplus
}
#endif

#endif /* MODEL_SHIPPED_H */
