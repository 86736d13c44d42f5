// Opens the model of a bundle with the settings that it was checked with, and runs it.
using System;
using System.Collections.Generic;
using System.IO;
using System.Linq;
using System.Runtime.InteropServices;
using System.Text.Json;
using System.Text.RegularExpressions;
using Microsoft.ML.OnnxRuntime;
using Microsoft.ML.OnnxRuntime.Tensors;

/// <summary>An array that the model gave, flattened; integers become floats.</summary>
public sealed class Output
{
    public Output(long[] shape, float[] values) => (Shape, Values) = (shape, values);

    public long[] Shape { get; }
    public float[] Values { get; }
}

/// <summary>What a program gives for one case of the self-test; null where there is none.</summary>
public sealed class Answer
{
    public Answer(long[]? tokens, Dictionary<string, Output> outputs, string[]? labels) =>
        (Tokens, Outputs, Labels) = (tokens, outputs, labels);

    public long[]? Tokens { get; }
    public Dictionary<string, Output> Outputs { get; }
    public string[]? Labels { get; }
}

public static class Json
{
    public static JsonElement Read(string path) =>
        JsonDocument.Parse(File.ReadAllBytes(path)).RootElement;

    /// <summary>The value of a key; null where it is missing or null.</summary>
    public static JsonElement? Find(this JsonElement from, string key) =>
        from.TryGetProperty(key, out var found) && found.ValueKind != JsonValueKind.Null
            ? found
            : (JsonElement?)null;

    public static T[] Select<T>(this JsonElement array, Func<JsonElement, T> each) =>
        array.EnumerateArray().Select(each).ToArray();
}

public static class Cpu
{
    /// <summary>Empty where it cannot be read, as on Windows: the exact kernels then run, a little
    /// slower on some CPUs.</summary>
    private static readonly string Info =
        File.Exists("/proc/cpuinfo") ? File.ReadAllText("/proc/cpuinfo") : "";

    /// <summary>Its name; elsewhere kernels may round differently.</summary>
    public static string Name => Regex.Match(Info, "model name\\s*: (.*)").Groups[1].Value;

    /// <summary>Which of the bundle's session settings this CPU needs for exact kernels.</summary>
    public static string Class =>
        RuntimeInformation.ProcessArchitecture == Architecture.Arm64 ? "aarch64"
        : Regex.IsMatch(Info, "avx512_vnni|avx_vnni") ? ""
        : "x86_64-without-vnni";
}

/// <summary>An unpacked bundle, opened.</summary>
public sealed class Session : IDisposable
{
    private readonly InferenceSession session;
    private readonly RunOptions run = new RunOptions();

    public Session(string folder)
    {
        Record = Json.Read(Path.Combine(folder, "bundle.json")).GetProperty("artifact");
        var settings = Record.GetProperty("settings");
        using var options = new SessionOptions();
        var entries = settings.Find("session")
            ?? settings.Find("session_by_cpu")?.Find(Cpu.Class);
        if (entries is JsonElement found)
            foreach (var entry in found.EnumerateObject())
                options.AddSessionConfigEntry(entry.Name, entry.Value.GetString());
        session = new InferenceSession(Path.Combine(folder, "model.onnx"), options);
    }

    public JsonElement Record { get; }
    public IReadOnlyList<string> Inputs => session.InputNames;
    public InferenceSession Runtime => session;

    /// <summary>The outputs by name; disposes the inputs.</summary>
    public Dictionary<string, Output> Run(Dictionary<string, OrtValue> feeds)
    {
        try
        {
            using var found = session.Run(run, feeds, session.OutputNames);
            return session.OutputNames.Zip(found, (name, value) => (name, Copied(value)))
                .ToDictionary(each => each.Item1, each => each.Item2);
        }
        finally
        {
            foreach (var value in feeds.Values) value.Dispose();
        }
    }

    public void Dispose()
    {
        run.Dispose();
        session.Dispose();
    }

    private static Output Copied(OrtValue value)
    {
        var info = value.GetTensorTypeAndShape();
        var values = info.ElementDataType switch
        {
            TensorElementType.Float => value.GetTensorDataAsSpan<float>().ToArray(),
            TensorElementType.Double => Floats<double>(value, each => (float)each),
            TensorElementType.Float16 => Floats<Float16>(value, each => (float)each),
            TensorElementType.Int64 => Floats<long>(value, each => each),
            TensorElementType.Int32 => Floats<int>(value, each => each),
            TensorElementType.Int16 => Floats<short>(value, each => each),
            TensorElementType.Int8 => Floats<sbyte>(value, each => each),
            TensorElementType.UInt64 => Floats<ulong>(value, each => each),
            TensorElementType.UInt32 => Floats<uint>(value, each => each),
            TensorElementType.UInt16 => Floats<ushort>(value, each => each),
            TensorElementType.UInt8 => Floats<byte>(value, each => each),
            TensorElementType.Bool => Floats<bool>(value, each => each ? 1 : 0),
            var other => throw new NotSupportedException($"Session.cs converts no {other}"),
        };
        return new Output(info.Shape, values);
    }

    private static float[] Floats<T>(OrtValue value, Converter<T, float> converter)
        where T : unmanaged =>
        Array.ConvertAll(value.GetTensorDataAsSpan<T>().ToArray(), converter);
}
