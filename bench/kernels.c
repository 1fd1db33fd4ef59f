/* Programs that compute, for bench_kernels.py: the same C natively, and as WebAssembly.
 *
 * Each does something so many times, and gives a number that depends on all of it. kernels.wat is
 * made from this file; its first lines say how.
 */

typedef unsigned char u8;
typedef unsigned u32;

#ifdef __wasm__
#  define KERNEL(name) __attribute__((export_name(#name)))
#else
#  define KERNEL(name)
#endif

/* --- SHA-256 of a message of so many blocks of 64 bytes, without the padding */

static const u32 constants[64] = {
    0x428a2f98, 0x71374491, 0xb5c0fbcf, 0xe9b5dba5, 0x3956c25b, 0x59f111f1, 0x923f82a4, 0xab1c5ed5,
    0xd807aa98, 0x12835b01, 0x243185be, 0x550c7dc3, 0x72be5d74, 0x80deb1fe, 0x9bdc06a7, 0xc19bf174,
    0xe49b69c1, 0xefbe4786, 0x0fc19dc6, 0x240ca1cc, 0x2de92c6f, 0x4a7484aa, 0x5cb0a9dc, 0x76f988da,
    0x983e5152, 0xa831c66d, 0xb00327c8, 0xbf597fc7, 0xc6e00bf3, 0xd5a79147, 0x06ca6351, 0x14292967,
    0x27b70a85, 0x2e1b2138, 0x4d2c6dfc, 0x53380d13, 0x650a7354, 0x766a0abb, 0x81c2c92e, 0x92722c85,
    0xa2bfe8a1, 0xa81a664b, 0xc24b8b70, 0xc76c51a3, 0xd192e819, 0xd6990624, 0xf40e3585, 0x106aa070,
    0x19a4c116, 0x1e376c08, 0x2748774c, 0x34b0bcb5, 0x391c0cb3, 0x4ed8aa4a, 0x5b9cca4f, 0x682e6ff3,
    0x748f82ee, 0x78a5636f, 0x84c87814, 0x8cc70208, 0x90befffa, 0xa4506ceb, 0xbef9a3f7, 0xc67178f2,
};
static u8 message[64];

static u32 rotated(u32 x, int n)
{
    return x >> n | x << (32 - n);
}

#define ROUND(i, a, b, c, d, e, f, g, h) \
    h += (rotated(e, 6) ^ rotated(e, 11) ^ rotated(e, 25)) + (g ^ (e & (f ^ g))) + constants[round + i] + w[i]; \
    d += h; \
    h += (rotated(a, 2) ^ rotated(a, 13) ^ rotated(a, 22)) + ((a & b) | (c & (a | b)));
#define EIGHT_ROUNDS(i) \
    ROUND(i, a, b, c, d, e, f, g, h) \
    ROUND(i + 1, h, a, b, c, d, e, f, g) \
    ROUND(i + 2, g, h, a, b, c, d, e, f) \
    ROUND(i + 3, f, g, h, a, b, c, d, e) \
    ROUND(i + 4, e, f, g, h, a, b, c, d) \
    ROUND(i + 5, d, e, f, g, h, a, b, c) \
    ROUND(i + 6, c, d, e, f, g, h, a, b) \
    ROUND(i + 7, b, c, d, e, f, g, h, a)
#define WORD(i) \
    w[i] += w[(i + 9) % 16] + (rotated(w[(i + 1) % 16], 7) ^ rotated(w[(i + 1) % 16], 18) ^ w[(i + 1) % 16] >> 3) + \
            (rotated(w[(i + 14) % 16], 17) ^ rotated(w[(i + 14) % 16], 19) ^ w[(i + 14) % 16] >> 10);
#define EIGHT_WORDS(i) WORD(i) WORD(i + 1) WORD(i + 2) WORD(i + 3) WORD(i + 4) WORD(i + 5) WORD(i + 6) WORD(i + 7)

/* The last sixteen words of the schedule are kept, and the eight variables renamed, not moved, as libraries do it. */
static void add_block(u32 *hash, const u8 *block)
{
    u32 w[16];
    for (int i = 0; i < 16; i++) {
        w[i] = (u32)block[4 * i] << 24 | block[4 * i + 1] << 16 | block[4 * i + 2] << 8 | block[4 * i + 3];
    }
    u32 a = hash[0], b = hash[1], c = hash[2], d = hash[3], e = hash[4], f = hash[5], g = hash[6], h = hash[7];
    for (int round = 0;;) {
        EIGHT_ROUNDS(0)
        EIGHT_ROUNDS(8)
        round += 16;
        if (round == 64) {
            break;
        }
        EIGHT_WORDS(0)
        EIGHT_WORDS(8)
    }
    hash[0] += a, hash[1] += b, hash[2] += c, hash[3] += d, hash[4] += e, hash[5] += f, hash[6] += g, hash[7] += h;
}

/* The first four bytes of the hash, as one number. Between two blocks a byte of the message changes. */
KERNEL(sha256) u32 sha256(u32 blocks)
{
    u32 hash[8] = {0x6a09e667, 0xbb67ae85, 0x3c6ef372, 0xa54ff53a, 0x510e527f, 0x9b05688c, 0x1f83d9ab, 0x5be0cd19};
    for (u32 block = 0; block < blocks; block++) {
        message[block % 64] = (u8)block;
        add_block(hash, message);
    }
    return hash[0];
}

/* --- Five bodies that attract each other, for so many steps */

static struct body {
    double x, y, z, vx, vy, vz, mass;
} bodies[5];

/* Where the first one is then. */
KERNEL(nbody) double nbody(u32 steps)
{
    for (int i = 0; i < 5; i++) {
        bodies[i] = (struct body){i * 1.3, i * 0.7 + 1, i * 0.2, i * 0.01, 0.02, 0, 1.0 / (i + 1)};
    }
    for (u32 step = 0; step < steps; step++) {
        for (struct body *a = bodies; a < bodies + 5; a++) {
            for (struct body *b = a + 1; b < bodies + 5; b++) {
                double dx = a->x - b->x, dy = a->y - b->y, dz = a->z - b->z;
                double square = dx * dx + dy * dy + dz * dz + 0.01;
                double pull = 0.001 / (square * __builtin_sqrt(square));
                a->vx -= dx * b->mass * pull, a->vy -= dy * b->mass * pull, a->vz -= dz * b->mass * pull;
                b->vx += dx * a->mass * pull, b->vy += dy * a->mass * pull, b->vz += dz * a->mass * pull;
            }
        }
        for (struct body *a = bodies; a < bodies + 5; a++) {
            a->x += 0.001 * a->vx, a->y += 0.001 * a->vy, a->z += 0.001 * a->vz;
        }
    }
    return bodies[0].x;
}

/* --- The worst case: calls, and turns of loops, that do next to nothing */

static u32 fibonacci(u32 n)
{
    return n < 2 ? n : fibonacci(n - 1) + fibonacci(n - 2);
}

/* The sum of so many times the 20th or 21st Fibonacci number. */
KERNEL(fib) u32 fib(u32 times)
{
    u32 sum = 0;
    for (u32 i = 0; i < times; i++) {
        sum += fibonacci(20 + i % 2);
    }
    return sum;
}

static u8 composite[1 << 16];

/* How many primes there are below 65,536, that many times. */
KERNEL(sieve) u32 sieve(u32 times)
{
    u32 count = 0;
    for (u32 time = 0; time < times; time++) {
        for (u32 i = 0; i < sizeof composite; i++) {
            composite[i] = 0;
        }
        for (u32 i = 2; i < sizeof composite; i++) {
            count += !composite[i];
            for (u32 j = composite[i] ? sizeof composite : 2 * i; j < sizeof composite; j += i) {
                composite[j] = 1;
            }
        }
    }
    return count;
}
