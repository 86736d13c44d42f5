// A language model: it continues a text, token by token.
using System;
using System.Collections.Generic;
using System.IO;
using System.Linq;
using System.Text;
using System.Text.Json;
using Microsoft.ML.OnnxRuntime;
using Tokenizers.HuggingFace.Tokenizer;

public sealed class Model : IDisposable
{
    /// <summary>Tokens in one run: attention takes memory for each of them.</summary>
    private const int AtOnce = 512;

    private readonly Session session;
    private readonly OrtIoBinding binding;
    private readonly Tokenizer tokenizer;
    private readonly HashSet<long> endTokens;
    private readonly int context;
    private readonly List<float[]> memory = new List<float[]>();
    private readonly List<OrtValue> kept = new List<OrtValue>();
    private readonly float[] scores;
    private int position;

    /// <summary>Opens an unpacked bundle. <paramref name="context"/>: the most tokens of a text,
    /// with its continuation.</summary>
    public Model(string folder, int context = 2048)
    {
        session = new Session(folder);
        binding = session.Runtime.CreateIoBinding();
        tokenizer = Tokenizer.FromFile(Path.Combine(folder, "tokenizer.json"));
        var bundle = Json.Read(Path.Combine(folder, "bundle.json"));
        endTokens = bundle.GetProperty("end_tokens").Select(each => each.GetInt64()).ToHashSet();
        var most = session.Record.GetProperty("text").GetProperty("max_tokens").GetInt32();
        this.context = Math.Min(context, most);
        const string past = "past_key_values";
        foreach (var input in session.Record.GetProperty("inputs").EnumerateArray())
        {
            var name = input.GetProperty("name").GetString()!;
            if (!name.StartsWith(past + ".")) continue;
            var shape = input.GetProperty("shape").Select(size =>
                size.ValueKind == JsonValueKind.Number ? size.GetInt64() : this.context);
            // One memory for both: new keys and values are written where the old ones are.
            var value = Keep(shape);
            binding.BindInput(name, value);
            binding.BindOutput("present" + name.Substring(past.Length), value);
        }
        var logits = session.Record.GetProperty("outputs")[0].GetProperty("shape");
        binding.BindOutput("logits", Keep(new[] { 1, 1, logits[2].GetInt64() }));
        scores = memory.Last();
        memory.Remove(scores);
    }

    private OrtValue Keep(long[] shape)
    {
        memory.Add(new float[shape.Aggregate(1L, (product, size) => product * size)]);
        kept.Add(OrtValue.CreateTensorValueFromMemory(memory.Last(), shape));
        return kept.Last();
    }

    /// <summary>Token ids of a text, with the special tokens that precede one.</summary>
    public long[] Tokens(string text) =>
        tokenizer.Encode(text, addSpecialTokens: true).First().Ids.Select(id => (long)id).ToArray();

    /// <summary>Forgets the text that was read.</summary>
    public void Clear()
    {
        position = 0;
        foreach (var values in memory) Array.Clear(values, 0, values.Length);
    }

    /// <summary>The scores of the token that follows <paramref name="ids"/>, which are read behind
    /// what was read before. The array is written over by the next call.</summary>
    public float[] Append(long[] ids)
    {
        if (ids.Length == 0 || position + ids.Length > context)
            throw new ArgumentException($"{ids.Length} tokens are none, or do not fit into {context}");
        for (var begin = 0; begin < ids.Length; begin += AtOnce)
            Run(ids.Skip(begin).Take(AtOnce).ToArray());
        return scores;
    }

    private void Run(long[] ids)
    {
        var inputs = new[]
        {
            ("input_ids", OrtValue.CreateTensorValueFromMemory(ids, new long[] { 1, ids.Length })),
            ("past_length", OrtValue.CreateTensorValueFromMemory(new long[] { position }, new[] { 1L })),
            ("logits_to_keep", OrtValue.CreateTensorValueFromMemory(new[] { 1L }, new[] { 1L })),
        };
        foreach (var (name, value) in inputs) binding.BindInput(name, value);
        using (var options = new RunOptions()) session.Runtime.RunWithBinding(options, binding);
        foreach (var (_, value) in inputs) value.Dispose();
        position += ids.Length;
    }

    /// <summary>The likeliest continuation of a prompt, in pieces as they are written, until an end
    /// token or <paramref name="most"/> tokens.</summary>
    public IEnumerable<string> Generate(string prompt, int most = 64)
    {
        Clear();
        var ids = Tokens(prompt);
        // A token's text depends on those before it: a space may begin it or not.
        var recent = ids.Skip(ids.Length - 4).ToList();
        var shown = recent.Count;
        for (; most > 0 && position + ids.Length <= context; most--)
        {
            var next = (long)Largest(Append(ids));
            if (endTokens.Contains(next)) yield break;
            ids = new[] { next };
            recent.Add(next);
            var before = Letters(recent.Take(shown));
            var whole = Letters(recent);
            // The bytes of a character may come in several tokens.
            if (whole.Length <= before.Length || whole.Last() == Rune.ReplacementChar) continue;
            yield return string.Concat(whole.Skip(before.Length));
            recent.RemoveRange(0, shown);
            shown = recent.Count;
        }
    }

    private static int Largest(float[] values)
    {
        var best = 0;
        for (var i = 1; i < values.Length; i++)
            if (values[i] > values[best]) best = i;
        return best;
    }

    private Rune[] Letters(IEnumerable<long> ids) =>
        tokenizer.Decode(ids.Select(id => (uint)id).ToArray(), true).EnumerateRunes().ToArray();

    /// <summary>The answer to one case of the self-test: the scores of the token after its text.
    /// </summary>
    public Answer Answer(JsonElement wanted)
    {
        var ids = Tokens(wanted.GetProperty("text").GetString()!);
        Clear();
        var found = new Output(new long[] { scores.Length }, Append(ids).ToArray());
        return new Answer(ids, new Dictionary<string, Output> { ["logits"] = found }, null);
    }

    /// <summary>Every text with its continuation.</summary>
    public IEnumerable<string> Show(IReadOnlyList<string> texts) =>
        texts.Select(text => text + string.Concat(Generate(text)));

    public void Dispose()
    {
        binding.Dispose();
        foreach (var value in kept) value.Dispose();
        tokenizer.Dispose();
        session.Dispose();
    }
}
